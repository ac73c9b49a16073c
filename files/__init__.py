"""Files that come from elsewhere, read with care: tensors by name, ONNX networks, and keys that tell one content from another.

A file may be damaged, made to harm, or replaced while it is read. What cannot be used is refused in a sentence.
"""
