"""What keeps a model file from running code: pickles read without being run, programs only with consent."""
