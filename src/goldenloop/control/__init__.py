"""The reconcilers: read what is true, decide purely, act, and write down what was done, again and again."""
