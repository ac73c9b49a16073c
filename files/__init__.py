"""Files of tensors, opened as ComfyUI opens its checkpoints. What cannot be used is refused in a sentence."""
