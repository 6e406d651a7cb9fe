"""What both services know about connexion and Flask: specs to handlers, errors to JSON, bounded bodies, files."""
