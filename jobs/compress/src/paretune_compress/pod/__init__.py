"""The containers of intake, compress and evaluate: `python -m paretune_compress.pod fetch|stage|upload`.

Nothing here opens a model or imports TensorFlow; that is left to the stage's own process.
"""
