"""What the host has, and whether it is fit to run machines; knows no driver."""
