"""What runs in an array element: tasks, their worker processes, and the commit of one unit."""
