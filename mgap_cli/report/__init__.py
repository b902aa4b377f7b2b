"""The results for users: tables, figures, files and pages."""
