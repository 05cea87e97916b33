"""What every part of the project uses: command lines, files, audio, weights, plots."""
