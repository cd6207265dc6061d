"""A folder of client folders as a task without code: images by class folder, or tables in .npz and .csv files."""
