"""Networks that `keras.applications` lacks, as plain functional Keras models; one module per family."""
