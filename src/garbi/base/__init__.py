"""What both services stand on; knows no machine, node or image."""
