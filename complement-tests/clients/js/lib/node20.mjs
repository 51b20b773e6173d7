// matrix-js-sdk asks for Node 22 because of this one function; with it, Node 20 runs it as well.
Promise.withResolvers ??= function withResolvers() {
    let resolve, reject;
    const promise = new Promise((onResolve, onReject) => {
        resolve = onResolve;
        reject = onReject;
    });
    return { promise, resolve, reject };
};
