"""The card of a model version: what it is for, what it was judged on, who decided; as JSON, Markdown and one HTML file."""
