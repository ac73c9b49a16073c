"""What happens before the first picture: importing the pack, opening the adapter."""
