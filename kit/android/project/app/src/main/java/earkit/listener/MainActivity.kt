// MainActivity.kt: the screen: asks for the microphone, shows probabilities and events, lets one choose the engine.
package earkit.listener

import android.Manifest
import android.app.Activity
import android.content.Intent
import android.content.pm.PackageManager
import android.net.Uri
import android.os.Bundle
import android.provider.Settings
import android.view.View
import android.view.WindowManager
import android.widget.Button
import android.widget.LinearLayout
import android.widget.ProgressBar
import android.widget.RadioButton
import android.widget.RadioGroup
import android.widget.TextView

class MainActivity : Activity() {
    private lateinit var state: TextView
    private lateinit var button: Button
    private lateinit var events: TextView
    private val names = mutableListOf<TextView>()
    private val bars = mutableListOf<ProgressBar>()
    private val lines = ArrayDeque<String>()
    private var listener: Listener? = null
    private var results = 0

    override fun onCreate(saved: Bundle?) {
        super.onCreate(saved)
        setContentView(R.layout.main)
        state = findViewById(R.id.state)
        button = findViewById(R.id.listen)
        events = findViewById(R.id.events)
        button.setOnClickListener { if (listener == null) ask() else stop() }
        val engines = findViewById<RadioGroup>(R.id.engine)
        engines.setOnCheckedChangeListener { _, _ -> if (listener != null) restart() }
        if (Model.STREAMS) engines.visibility = View.GONE
        val labels = findViewById<LinearLayout>(R.id.labels)
        for (label in Model.LABELS) {
            val name = TextView(this).apply { textSize = 16f; text = label }
            val bar = ProgressBar(this, null, android.R.attr.progressBarStyleHorizontal).apply {
                max = 1000
                importantForAccessibility = View.IMPORTANT_FOR_ACCESSIBILITY_NO // the text says it
            }
            names.add(name)
            bars.add(bar)
            labels.addView(name)
            labels.addView(bar)
        }
    }

    override fun onStop() {
        stop() // no microphone behind the user's back
        super.onStop()
    }

    private fun ask() {
        if (checkSelfPermission(Manifest.permission.RECORD_AUDIO) == PackageManager.PERMISSION_GRANTED) {
            start()
            return
        }
        if (shouldShowRequestPermissionRationale(Manifest.permission.RECORD_AUDIO)) state.setText(R.string.why)
        requestPermissions(arrayOf(Manifest.permission.RECORD_AUDIO), ASKED)
    }

    override fun onRequestPermissionsResult(code: Int, permissions: Array<String>, granted: IntArray) {
        super.onRequestPermissionsResult(code, permissions, granted)
        if (code != ASKED || granted.isEmpty()) return // empty: the question was interrupted
        if (granted[0] == PackageManager.PERMISSION_GRANTED) return start()
        state.setText(R.string.refused)
        if (!shouldShowRequestPermissionRationale(Manifest.permission.RECORD_AUDIO)) offerSettings()
    }

    /** Android asks no third time: only its settings can allow the microphone now. */
    private fun offerSettings() {
        button.setText(R.string.settings)
        button.setOnClickListener {
            button.setText(R.string.listen)
            button.setOnClickListener { if (listener == null) ask() else stop() }
            val here = Uri.fromParts("package", packageName, null)
            startActivity(Intent(Settings.ACTION_APPLICATION_DETAILS_SETTINGS, here))
        }
    }

    private fun start() {
        val litert = findViewById<RadioButton>(R.id.litert).isChecked
        val engine = try {
            if (litert) LiteRt(this) else Compiled()
        } catch (error: RuntimeException) { // a phone that LiteRT does not run on
            state.text = error.message
            return
        }
        val called = getString(if (litert) R.string.litert else R.string.compiled)
        results = 0
        var mine: Listener? = null
        mine = Listener(
            engine,
            heard = { runOnUiThread { if (listener === mine) show(it, called) } },
            failed = { runOnUiThread { if (listener === mine) { stop(); state.text = it } } },
        )
        listener = mine
        mine.start()
        button.setText(R.string.stop)
        window.addFlags(WindowManager.LayoutParams.FLAG_KEEP_SCREEN_ON)
    }

    private fun stop() {
        listener?.stop()
        listener = null
        button.setText(R.string.listen)
        state.setText(R.string.idle)
        window.clearFlags(WindowManager.LayoutParams.FLAG_KEEP_SCREEN_ON)
    }

    private fun restart() {
        stop()
        start()
    }

    private fun show(heard: Heard, engine: String) {
        results++
        if (results % STATE_EVERY == 1) {
            state.text = getString(R.string.listening, engine, heard.milliseconds, results)
        }
        for ((i, mean) in heard.means.withIndex()) {
            names[i].text = getString(R.string.probability, Model.LABELS[i], mean * 100)
            bars[i].progress = (mean * 1000).toInt()
        }
        for (event in heard.events) say(event)
    }

    private fun say(event: Event) {
        if (event.end != null && lines.isNotEmpty()) lines.removeFirst() // its own line, from when it began
        val percent = event.probability * 100
        lines.addFirst(
            if (event.end == null) getString(R.string.begins, event.label, event.start, percent)
            else getString(R.string.ended, event.label, event.start, event.end, percent),
        )
        while (lines.size > KEPT) lines.removeLast()
        events.text = lines.joinToString("\n")
    }

    private companion object {
        const val ASKED = 1
        const val KEPT = 50 // lines of events
        const val STATE_EVERY = 8 // results: a screen reader says it each time
    }
}
