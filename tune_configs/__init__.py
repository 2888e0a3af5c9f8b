"""The built-in plans, as data: `supervisord start NAME` runs NAME.yaml. The schema beside them is for editors."""
