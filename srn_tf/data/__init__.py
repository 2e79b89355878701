"""Data sets and the pipeline that feeds them: image files, prepared records, one module per data set."""
