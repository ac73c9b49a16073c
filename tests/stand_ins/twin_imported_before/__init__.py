"""Another pack with one of our ids, which ComfyUI imports before ours."""


class ApplyInstantID:
    CATEGORY, RETURN_TYPES, FUNCTION = "twin", (), "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {}}


NODE_CLASS_MAPPINGS = {"ApplyInstantID": ApplyInstantID}
