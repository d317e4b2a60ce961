package qupath.lib.images.servers;

/** Only its inner type is asked for. */
public class ImageServerBuilder {
    public interface ServerBuilder {
    }
}
