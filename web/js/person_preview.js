// The faces of a saved person on the node InstantID Load Person, as soon as the drop-down changes. The server reads them from the
// file (people/nodes.py); of a file without faces, or a damaged one, nothing is shown.
import { app } from "../../../scripts/app.js"
import { api } from "../../../scripts/api.js"

const HEIGHT = 150              // pixels of the picture on the node

function addPreview(node, person) {
    const image = document.createElement("img")
    Object.assign(image.style, { display: "none", width: "100%", height: "100%", objectFit: "contain" })
    const box = document.createElement("div")
    box.append(image)
    const shown = () => image.style.display !== "none"
    const widget = node.addDOMWidget("faces", "instantid_faces", box,
        { serialize: false, hideOnZoom: false, getMinHeight: () => shown() ? HEIGHT : 0, getMaxHeight: () => shown() ? HEIGHT : 0 })
    widget.serialize = false
    const show = (there) => {
        if (there === shown()) return
        image.style.display = there ? "" : "none"
        box.style.height = there ? `${HEIGHT}px` : "0"
        const [width, height] = node.computeSize()
        node.setSize([Math.max(node.size[0], width), there ? Math.max(node.size[1], height) : height])
        app.graph?.setDirtyCanvas?.(true, true)
    }
    image.addEventListener("load", () => show(true))
    image.addEventListener("error", () => show(false))
    return () => {
        image.src = api.apiURL(`/instantid_swift/person?name=${encodeURIComponent(person.value)}&${Date.now()}`)
    }
}

app.registerExtension({
    name: "InstantIDSwift.PersonPreview",
    beforeRegisterNodeDef(nodeType, { name }) {
        if (name !== "InstantIDLoadPerson") return
        const { onNodeCreated, onConfigure } = nodeType.prototype
        nodeType.prototype.onNodeCreated = function () {
            onNodeCreated?.apply(this, arguments)
            const person = this.widgets.find(({ name }) => name === "person")
            const look = this.instantidLook = addPreview(this, person)
            const { callback } = person
            person.callback = function () {
                callback?.apply(this, arguments)
                look()
            }
            look()
        }
        nodeType.prototype.onConfigure = function () {
            onConfigure?.apply(this, arguments)
            this.instantidLook?.()
        }
    },
})
