"""The models that ship, as safetensors, each with its card inside."""
