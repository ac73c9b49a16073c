// What the pack adds to ComfyUI's editor: a toast about packs with the same nodes, texts on nodes that do not outlive
// their reason, and reports that show themselves.
import { app } from "../../../scripts/app.js"
import { api } from "../../../scripts/api.js"
import { ComfyWidgets } from "../../../scripts/widgets.js"

const SAID = "InstantID: "                      // how host/server.py begins the texts that it shows on nodes
const TEXT_ON_NODE = "$$node-text-preview"      // the editor's widget for them
const TEXT_MARGINS = [52, 40]                   // pixels around such a text, across and down
const HIGHEST_TEXT = 230
const plain = new WeakMap()                     // nodes with a text of ours: their sizes without it
const savedPlain = new WeakSet()                // nodes that are saved in those sizes
const REPORTS = ["InstantIDCache", "InstantIDPerformanceReport", "InstantIDFaces", "InstantIDLikeness",
    "InstantIDSweep"]

async function warnOfTwins() {
    const answer = await api.fetchApi("/instantid_swift/twins")
    const { warning } = answer.ok ? await answer.json() : {}
    if (warning) {
        app.extensionManager.toast.add({ severity: "warn", summary: "InstantID Swift", detail: warning })
    }
}

// The node of an id in a prompt. Inside of subgraphs the id is a path, such as 12:8.
function nodeOf(id) {
    let graph = app.rootGraph ?? app.graph
    let node
    for (const part of String(id).split(":")) {
        node = graph?.nodes.find((one) => String(one.id) === part)
        graph = node?.subgraph
    }
    return node
}

const textOn = (node) => node?.widgets?.find((widget) => widget.name === TEXT_ON_NODE && String(widget.value).startsWith(SAID))

// Pixels that a text takes in the width of a node.
function heightOf(text, width) {
    const box = document.createElement("div")
    Object.assign(box.style, { position: "absolute", visibility: "hidden", width: `${width - TEXT_MARGINS[0]}px`,
        fontSize: "12px", lineHeight: "16px", whiteSpace: "pre-wrap", wordBreak: "break-all" })
    box.textContent = text
    document.body.append(box)
    const height = box.offsetHeight + TEXT_MARGINS[1]
    box.remove()
    return height
}

// The editor shows three lines of a text, or up to HIGHEST_TEXT. The node grows to ours, and is saved in its plain size.
function makeRoom(node) {
    const widget = textOn(node)
    if (!widget) return
    if (!plain.has(node)) plain.set(node, [...node.size])
    if (!savedPlain.has(node)) {
        savedPlain.add(node)
        const { onSerialize } = node
        node.onSerialize = function (saved) {
            onSerialize?.apply(this, arguments)
            if (plain.has(this)) saved.size = [...plain.get(this)]
        }
    }
    const text = String(widget.value)
    let width = node.size[0]
    while (heightOf(text, width) > HIGHEST_TEXT) width += 40
    widget.options.getMinHeight = () => heightOf(text, width)
    node.setSize([width, Math.max(node.size[1], node.computeSize()[1])])
}

// The editor keeps a text until the node says something else. Of a node that runs again, ours has to go.
function forgetText(node) {
    const widget = textOn(node)
    if (widget) node.removeWidget(widget)
    if (plain.has(node)) node.setSize(plain.get(node))
    plain.delete(node)
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
        api.addEventListener("executing", ({ detail: id }) => forgetText(nodeOf(id)))
        // after the editor, which shows the text, has had the event too
        api.addEventListener("progress_text", ({ detail: { nodeId } }) => queueMicrotask(() => makeRoom(nodeOf(nodeId))))
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
