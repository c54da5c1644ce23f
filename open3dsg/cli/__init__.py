"""The command `open3dsg`: one file a group, bodies that open, make one call and print."""
