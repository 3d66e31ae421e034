"""Train on a folder of images and classify new ones: `photos/` holds a folder per class."""

import longtail as lt

run = lt.train("photos/")
print(run.scores)
print(run.predict(["photos/test"]).labels)
