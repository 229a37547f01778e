"""What models come as: one module a format. `recognise` finds the model in a folder, `make_form` brings it into a served form.

Recognition reads names and first bytes. Making loads the model, so it belongs into a sandboxed process of its own.
"""

from goldenloop.serving.formats.found import Found, Made
from goldenloop.serving.formats.making import make_form
from goldenloop.serving.formats.recognition import FORMATS, recognise

__all__ = ["FORMATS", "Found", "Made", "make_form", "recognise"]
