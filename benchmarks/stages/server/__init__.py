"""Runs of whole workflows on a real ComfyUI server."""
