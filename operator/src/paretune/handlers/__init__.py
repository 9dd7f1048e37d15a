"""kopf: watches wake, a queue delegates; and the process around them. Nothing else imports kopf."""
