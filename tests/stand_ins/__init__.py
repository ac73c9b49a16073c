"""What stands in for things that a test machine does not have: CUDA graphs, a device, another pack, an old insightface."""
