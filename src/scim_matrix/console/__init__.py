"""The console: a small web application where people manage which group opens which room."""
