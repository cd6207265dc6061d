"""The page: a process of its own that reads run directories and shows them to browsers. It changes nothing."""
