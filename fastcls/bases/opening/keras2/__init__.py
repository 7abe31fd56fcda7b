"""Models of Keras 2, built of layers of Keras 3 from what is stored of them. No code in a file runs."""
