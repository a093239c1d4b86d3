// The theme's search runs in a worker. Browsers start no worker from a file, so a site that is opened from its folder
// would have no search. There this gives the page a Worker that runs the same script in a hidden frame.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super();
      const frame = document.createElement("iframe");
      frame.hidden = true;
      frame.title = "search";
      document.documentElement.append(frame);
      const script = frame.contentDocument.createElement("script");
      this.scope = frame.contentWindow;
      // What the script posts is for the page; bare postMessage() of a frame would post to the frame itself.
      this.scope.postMessage = (data) => this.dispatchEvent(new MessageEvent("message", { data }));
      this.started = new Promise((started) => script.addEventListener("load", started));
      script.src = url;
      frame.contentDocument.documentElement.append(script);
    }

    postMessage(data) {
      this.started.then(() => this.scope.dispatchEvent(new MessageEvent("message", { data })));
    }
  };
}
