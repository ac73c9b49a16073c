// What the pack adds to ComfyUI's editor: a toast about packs with the same nodes, texts on nodes that do not outlive
// their reason, and reports that show themselves.
import { app } from "../../../scripts/app.js"
import { api } from "../../../scripts/api.js"

const SAID = "InstantID: "                      // how host/server.py begins the texts that it shows on nodes
const EDITORS_TEXT = "$$node-text-preview"      // the editor's widget for them
const TEXT = "instantid_text", REPORT = "report_text"   // ours
const LETTER = 7.3                              // pixels, of 12 px monospace
const MOST_LETTERS = 120                        // a longer line is broken
const plain = new WeakMap()                     // nodes that have run: their sizes without a text
const REPORTS = ["InstantIDCache", "InstantIDPerformanceReport", "InstantIDFaces", "InstantIDLikeness",
    "InstantIDSweep", "InstantIDRefineFaces"]

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

// A text on a node in a widget of ours, which is as high as the text and is not saved. The editor's own cuts texts off.
function textWidget(node, name, style) {
    const found = node.widgets?.find((widget) => widget.name === name)
    if (found) return found
    const box = document.createElement("div")
    Object.assign(box.style, { fontSize: "12px", lineHeight: "16px", whiteSpace: "pre-wrap", overflowWrap: "anywhere",
        padding: "2px 6px", boxSizing: "border-box", overflow: "auto", userSelect: "text", ...style })
    const widget = node.addDOMWidget(name, "instantid_text", box, { serialize: false, hideOnZoom: false,
        getValue: () => box.textContent, getMinHeight: () => heightOf(box, node.size[0]) })
    widget.serialize = false
    return widget
}

// The editor shows no text in some subgraphs, and later versions take it off at the end of a run. The node grows to ours, and is
// saved in its plain size.
function showSaid(node, text) {
    if (!node || !text.startsWith(SAID)) return
    const shown = node.widgets?.find(({ name }) => name === EDITORS_TEXT)
    if (shown) node.removeWidget(shown)
    if (!plain.has(node)) forgetText(node)      // the page was opened while the node ran
    textWidget(node, TEXT).element.textContent = text
    node.setSize([plain.get(node)[0], Math.max(plain.get(node)[1], node.computeSize()[1])])
}

// Pixels that a text takes in the width of a node, with a margin.
function heightOf(box, width) {
    const copy = box.cloneNode(true)
    Object.assign(copy.style, { position: "absolute", visibility: "hidden", width: `${width - 50}px`, height: "auto" })
    document.body.append(copy)
    const height = copy.offsetHeight + 24
    copy.remove()
    return height
}

// A node that runs again may have no more reason for its text.
function forgetText(node) {
    if (!node) return
    const widget = node.widgets?.find(({ name }) => name === TEXT)
    if (widget) {
        node.removeWidget(widget)
        node.setSize(plain.get(node))
    }
    if (!plain.has(node)) {
        const { onSerialize } = node
        node.onSerialize = function (saved) {
            onSerialize?.apply(this, arguments)
            if (this.widgets?.some(({ name }) => name === TEXT)) saved.size = [...plain.get(this)]
        }
    }
    plain.set(node, [...node.size])
}

// Shows the text of a node's result on the node, in letters of one width, so that columns stand below each other.
function showReport(node, text) {
    textWidget(node, REPORT, { fontFamily: "monospace" }).element.textContent = text
    const widest = Math.min(MOST_LETTERS, Math.max(...text.split("\n").map((line) => line.length)))
    node.size[0] = Math.max(node.computeSize()[0], node.size[0], LETTER * widest + 70)    // the text's height depends on it
    node.setSize([node.size[0], Math.max(node.computeSize()[1], node.size[1])])
}

app.registerExtension({
    name: "InstantIDSwift",
    setup() {
        api.addEventListener("executing", ({ detail: id }) => forgetText(nodeOf(id)))
        // after the editor, which shows the text, has had the event too
        api.addEventListener("progress_text", ({ detail: { nodeId, text } }) => queueMicrotask(() => showSaid(nodeOf(nodeId), text)))
        return warnOfTwins()
    },
    beforeRegisterNodeDef(nodeType, { name }) {
        if (!REPORTS.includes(name)) return
        const { onExecuted } = nodeType.prototype
        nodeType.prototype.onExecuted = function (output) {
            onExecuted?.apply(this, arguments)
            showReport(this, (output?.text ?? []).join("\n"))
        }
    },
})
