"""The command lines, a file each: parse, call the package, print. tools/ and `srn-tf` start them."""
