"""What all pods of Paretune have in common: the frame of a container, and its way to and from the store.

`python -m paretune_store.pod retain|purge` are containers of their own, which clean up.
"""
