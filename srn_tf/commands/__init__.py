"""The command lines, one file each: parse the flags, call the package, print. tools/ and `srn-tf` start them."""
