"""Looking at a run from its directory or from afar: what there is to see, in lines or on a terminal."""
