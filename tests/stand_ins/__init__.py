"""What stands in for things that a test machine does not have: a device, the library of dynamic VRAM, another pack, an old
insightface."""
