"""Local algorithms that come with the program, one file each: the clients' halves of methods that plans cannot say."""
