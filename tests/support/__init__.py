"""What tests share: runs by hand, processes, workers played by hand, tasks, models, damage."""
