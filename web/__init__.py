"""The page that converts in the browser: its files, and the server for it."""
