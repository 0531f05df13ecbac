// Model.kt: what the app must know of @TITLE@.
package earkit.listener

object Model {
    const val RATE = @RATE@ // samples a second
    const val SAMPLES = @SAMPLES@ // of the first result
    const val HOP = @HOP@ // samples between two results
    const val THRESHOLD = @THRESHOLD@
    const val STREAMS = @STREAMS@ // the compiled model remembers what it heard; LiteRT's file is the window's
    const val FILE = "model.int8.tflite"
    val LABELS = arrayOf(@LABELS@)
}
