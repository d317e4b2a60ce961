package stub;

import java.net.InetAddress;
import java.net.URI;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.CountDownLatch;
import java.util.stream.Collectors;

import py4j.GatewayServer;
import qupath.lib.objects.classes.PathClass;

/**
 * What the live link needs of QuPath, behind a real py4j gateway: Stub [TOKEN] prints its port.
 *
 * With Groovy on the class path it runs the link's own script; without, the same in Java.
 */
public class Stub {
    private final Viewer viewer = new Viewer();
    private final List<PathClass> classes = new CopyOnWriteArrayList<>();
    private ImageData image;
    private String lastScript = "";
    private long stall;
    private CountDownLatch parsing = new CountDownLatch(1);

    // ---- what QuPath's entry point and window have

    public Stub getQuPath() { return this; }
    public ImageData getImageData() { return image; }
    public Viewer getCurrentViewer() { return viewer; }
    public List<PathClass> getAvailablePathClasses() { return classes; }

    public Object runScript(java.io.File file, String script) throws Exception {
        lastScript = script;
        Class<?> shell;
        try {
            shell = Class.forName("groovy.lang.GroovyShell");
        } catch (ClassNotFoundException error) {
            return new Bridge();
        }
        Object made = shell.getConstructor().newInstance();
        return shell.getMethod("evaluate", String.class).invoke(made, script);
    }

    public List<PathObject> toPathObjects(String text) throws InterruptedException {
        parsing.countDown();
        Thread.sleep(stall);
        return Objects.parse(text);
    }

    public List<String> toFeatureCollections(Collection<PathObject> objects, int size) {
        List<PathObject> all = new ArrayList<>(objects);
        List<String> found = new ArrayList<>();
        for (int start = 0; start < all.size(); start += size) {
            List<PathObject> part = all.subList(start, Math.min(all.size(), start + size));
            found.add("{\"type\":\"FeatureCollection\",\"features\":["
                + part.stream().map(PathObject::toJson).collect(Collectors.joining(",")) + "]}");
        }
        return found;
    }

    public List<String> getObjectIds(Collection<PathObject> objects) {
        return objects.stream().map(one -> one.getID().toString()).collect(Collectors.toList());
    }

    // ---- what tests do with it

    public void reset() {
        image = null;
        classes.clear();
        stall = 0;
        parsing = new CountDownLatch(1);
        viewer.downsample = 1;
        viewer.setCenterPixelLocation(0, 0);
    }

    public void show(String uri, String name, int width, int height, String builder) {
        image = uri == null ? null : new ImageData(uri, name, width, height, builder);
    }

    public void addClass(String name, int color) {
        PathClass made = PathClass.fromString(name, color);
        made.setColor(color);
        classes.add(made);
    }

    public void addObjects(String text) { image.getHierarchy().addObjects(Objects.parse(text)); }

    public void select(int number) {
        Objects objects = image.getHierarchy();
        objects.getSelectionModel().chosen.add(objects.getFlattenedObjectList(null).get(number));
    }

    public void stall(long ms) { stall = ms; }
    public void awaitParsing() throws InterruptedException { parsing.await(); }
    public String getLastScript() { return lastScript; }
    public int count() { return image.getHierarchy().getFlattenedObjectList(null).size(); }
    public String describe(String id) {
        return image.getHierarchy().getFlattenedObjectList(null).stream()
            .filter(one -> one.getID().toString().equals(id)).map(PathObject::toJson).collect(Collectors.joining("\n"));
    }

    /** Run a script of ours for the image that is shown, as "Run for project" does. */
    public String runForProject(String script, String entry) throws Exception {
        Class<?> binding = Class.forName("groovy.lang.Binding"), shell = Class.forName("groovy.lang.GroovyShell");
        java.io.StringWriter out = new java.io.StringWriter();
        Object variables = binding.getConstructor().newInstance();
        binding.getMethod("setVariable", String.class, Object.class).invoke(variables, "out", new java.io.PrintWriter(out, true));
        binding.getMethod("setVariable", String.class, Object.class).invoke(variables, "stub", this);
        binding.getMethod("setVariable", String.class, Object.class).invoke(variables, "entry", entry);
        Object made = shell.getConstructor(binding).newInstance(variables);
        String given = "def getProjectEntry() { [getID: { entry }, getImageName: { 'image' }] as stub.Stub.Entry }\n"
            + "def getCurrentHierarchy() { stub.getImageData().getHierarchy() }\n";
        shell.getMethod("evaluate", String.class).invoke(made, given + script);
        return out.toString();
    }

    public interface Entry {
        String getID();
        String getImageName();
    }

    public static class ImageData {
        private final Objects objects = new Objects();
        private final Server server;
        ImageData(String uri, String name, int width, int height, String builder) {
            server = new Server(uri, name, width, height, builder);
        }
        public Server getServer() { return server; }
        public Objects getHierarchy() { return objects; }
    }

    public static class Server {
        private final String uri, name, builder;
        private final int width, height;
        Server(String uri, String name, int width, int height, String builder) {
            this.uri = uri;
            this.name = name;
            this.width = width;
            this.height = height;
            this.builder = builder;
        }
        public Collection<URI> getURIs() { return List.of(URI.create(uri)); }
        public String getPath() { return "StubServer: " + uri + "[--series, 0]"; }
        public int getWidth() { return width; }
        public int getHeight() { return height; }
        public Server getMetadata() { return this; }
        public String getName() { return name; }
        public String getBuilder() { return builder; }
    }

    public static class Viewer {
        private volatile double x, y, downsample = 1, rotation;
        public double getCenterPixelX() { return x; }
        public double getCenterPixelY() { return y; }
        public double getDownsampleFactor() { return downsample; }
        public double getRotation() { return rotation; }
        public int getZPosition() { return 0; }
        public int getTPosition() { return 0; }
        public void setDownsampleFactor(double value) { downsample = Math.max(0.05, value); } // QuPath bounds it, too
        public void setCenterPixelLocation(double x, double y) {
            this.x = x;
            this.y = y;
        }
    }

    /** The link's script in Java. */
    public static class Bridge {
        public List<Integer> merge(Objects hierarchy, List<PathObject> objects) {
            Map<Object, PathObject> known = new HashMap<>();
            for (PathObject old : hierarchy.getFlattenedObjectList(null)) known.put(old.getID(), old);
            List<PathObject> old = new ArrayList<>();
            for (PathObject one : objects) if (known.containsKey(one.getID())) old.add(known.get(one.getID()));
            if (!old.isEmpty()) hierarchy.removeObjects(old, true);
            hierarchy.addObjects(objects);
            return List.of(objects.size() - old.size(), old.size());
        }

        public String view(Viewer viewer) {
            return viewer.x + " " + viewer.y + " " + viewer.downsample + " " + viewer.rotation + " 0 0";
        }

        public String look(Viewer viewer, double x, double y, double downsample) {
            viewer.setDownsampleFactor(downsample);
            viewer.setCenterPixelLocation(x, y);
            return view(viewer);
        }

        public String builder(Server server) { return server.getBuilder(); }

        public int addClass(List<PathClass> classes, String name, int color) {
            if (classes.stream().anyMatch(one -> one.toString().equals(name))) return 0;
            classes.add(PathClass.fromString(name, color));
            return 1;
        }
    }

    public static void main(String[] args) throws Exception {
        GatewayServer.GatewayServerBuilder builder = new GatewayServer.GatewayServerBuilder(new Stub())
            .javaPort(0).javaAddress(InetAddress.getByName("127.0.0.1"));
        if (args.length > 0) builder.authToken(args[0]);
        GatewayServer server = builder.build();
        server.start();
        System.out.println(server.getListeningPort());
        System.out.flush();
        while (System.in.read() != -1) server.shutdown(); // a line stops the gateway, the end all
        System.exit(0);
    }
}
