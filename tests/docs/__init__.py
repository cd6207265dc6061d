"""The documents: their blocks of code do what they say, and the site is made of them."""
