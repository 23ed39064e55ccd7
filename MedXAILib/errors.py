"""The one exception that speaks to the user."""


class InputError(ValueError):
    """Something given by the user cannot be used.

    The message is one sentence that names the file or option, says what is wrong and what to do.
    The command line prints it and exits with code 2.
    """
