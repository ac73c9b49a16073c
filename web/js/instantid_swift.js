// What the pack adds to ComfyUI's editor: a toast about packs with the same nodes, texts on nodes that do not outlive
// their reason, and reports that show themselves.
import { app } from "../../../scripts/app.js"
import { api } from "../../../scripts/api.js"
import { ComfyWidgets } from "../../../scripts/widgets.js"

const SAID = "InstantID: "                      // how host/server.py begins the texts that it shows on nodes
const TEXT_ON_NODE = "$$node-text-preview"      // the editor's widget for them
const REPORTS = ["InstantIDCache", "InstantIDPerformanceReport", "InstantIDFaces", "InstantIDLikeness",
    "InstantIDSweep"]

async function warnOfTwins() {
    const answer = await api.fetchApi("/instantid_swift/twins")
    const { warning } = answer.ok ? await answer.json() : {}
    if (warning) {
        app.extensionManager.toast.add({ severity: "warn", summary: "InstantID Swift", detail: warning })
    }
}

// The editor keeps a text until the node says something else. Of a node that runs again, ours has to go.
function forgetText({ detail: id }) {
    const widgets = app.graph?.getNodeById(Number(id))?.widgets ?? []
    const at = widgets.findIndex((widget) => widget.name === TEXT_ON_NODE && String(widget.value).startsWith(SAID))
    if (at >= 0) {
        widgets[at].onRemove?.()
        widgets.splice(at, 1)
    }
}

// Shows the text of a node's result on the node, in letters of one width, so that columns stand below each other.
function showText(node, text) {
    let widget = node.widgets?.find((widget) => widget.name === "report_text")
    if (!widget) {
        widget = ComfyWidgets.STRING(node, "report_text", ["STRING", { multiline: true }], app).widget
        widget.options.serialize = widget.serialize = false
        const box = widget.inputEl ?? widget.element
        if (box) {
            box.readOnly = true
            Object.assign(box.style, { fontFamily: "monospace", whiteSpace: "pre" })
        }
    }
    widget.value = text
    widget.options.getMinHeight = () => Math.min(24 + 13 * text.split("\n").length, 400)
    const [width, height] = node.computeSize()
    node.setSize([Math.max(width, node.size[0], 520), Math.max(height, node.size[1])])
}

app.registerExtension({
    name: "InstantIDSwift",
    setup() {
        api.addEventListener("executing", forgetText)
        return warnOfTwins()
    },
    beforeRegisterNodeDef(nodeType, { name }) {
        if (!REPORTS.includes(name)) return
        const onExecuted = nodeType.prototype.onExecuted
        nodeType.prototype.onExecuted = function (output) {
            onExecuted?.apply(this, arguments)
            showText(this, (output?.text ?? []).join("\n"))
        }
    },
})
