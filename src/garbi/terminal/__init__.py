"""What both command lines share: output, progress, the shell and its completion, exit statuses."""
