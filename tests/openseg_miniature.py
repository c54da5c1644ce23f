"""A small true SavedModel with OpenSeg's signature: same inputs and outputs, random weights, a small grid.

As the real one does it (tensorflow/tpu, models/official/detection: `resize_and_crop_image`), a picture is
scaled so that its longer side is `side`, and padded with zeros below and on the right; ``image_info`` has
four rows of (height, width): original size, scaled size, scale, offset.
"""

from __future__ import annotations

from pathlib import Path

SIDE = 64  # the real one: 640
DIMENSION = 768


def write_openseg(
    folder: Path,
    side: int = SIDE,
    dimension: int = DIMENSION,
    *,
    spread: float = 0.5,
    output: str = "ppixel_ave_feat",
) -> None:
    """Write a SavedModel to `folder`; its vectors follow the colours around each cell.

    `spread`: standard deviation of the random weights, or NaN. `output`: how the features are called.
    """
    import tensorflow as tf

    class Model(tf.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            random = tf.random.Generator.from_seed(0)
            self.look = tf.Variable(random.normal([3, 3, 3, 16], stddev=spread))
            self.lift = tf.Variable(random.normal([1, 1, 16, dimension], stddev=spread))

        @tf.function(  # type: ignore[untyped-decorator]
            input_signature=[
                tf.TensorSpec([], tf.string, "inp_image_bytes"),
                tf.TensorSpec([1, None, DIMENSION], tf.float32, "inp_text_emb"),
            ]
        )
        def serve(self, inp_image_bytes: tf.Tensor, inp_text_emb: tf.Tensor) -> dict[str, tf.Tensor]:
            image = tf.cast(tf.io.decode_jpeg(inp_image_bytes, channels=3), tf.float32) / 127.5 - 1
            size = tf.cast(tf.shape(image)[:2], tf.float32)
            scaled_size = tf.round(size * side / tf.reduce_max(size))
            scaled = tf.image.resize(image, tf.cast(scaled_size, tf.int32))
            padded = tf.image.pad_to_bounding_box(scaled, 0, 0, side, side)[None]
            codes = tf.tanh(tf.nn.conv2d(padded, self.look, 1, "SAME"))
            features = tf.nn.conv2d(codes, self.lift, 1, "SAME")
            info = tf.stack([size, scaled_size, scaled_size / size, tf.zeros(2)])
            return {output: features, "image_info": info, "text": tf.identity(inp_text_emb)}

    model = Model()
    tf.saved_model.save(model, str(folder), signatures={"serving_default": model.serve})
