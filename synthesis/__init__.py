"""MIDI and notes to audio."""
