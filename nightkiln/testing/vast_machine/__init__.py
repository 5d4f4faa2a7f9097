"""What is behind a rented machine of the simulated Vast: processes in a scratch folder.

``leash`` finds and ends them, ``sshd`` lets the batch's key in, ``tools`` stands in for what needs
a GPU or the image. Kept light: each machine's SSH server imports it.
"""
