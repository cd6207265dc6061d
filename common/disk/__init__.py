"""Files and folders: whole, on disk, and for whom they are."""
