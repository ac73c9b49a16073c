"""Another pack with one of our ids, which ComfyUI imports after ours."""


class FaceKeypointsPreprocessor:
    CATEGORY, RETURN_TYPES, FUNCTION = "twin", (), "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {}}


NODE_CLASS_MAPPINGS = {"FaceKeypointsPreprocessor": FaceKeypointsPreprocessor}
