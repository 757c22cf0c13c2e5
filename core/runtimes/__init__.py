"""The room of the inference libraries: only the worker child comes in here, and their types never leave it."""
