"""A stand-in of ComfyUI's HTTP interface, and runs of the real engine against many of them: python -m bulk.simulation"""
