"""Images: content-addressed files that machines start from, inspection of hostile content, the tiny images."""
